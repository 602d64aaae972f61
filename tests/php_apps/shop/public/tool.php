<?php
// A script of its own beside the front controller.
header('Content-Type: application/json');
echo json_encode(array_intersect_key($_SERVER, array_flip(['SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING'])));
