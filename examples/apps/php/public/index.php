<?php
// `apt install php-cgi`, then: hatchery serve examples/apps/php
// Every address comes here that is no file or script in this folder.
header('Content-Type: text/plain');
echo 'Hello from PHP, process ', getmypid(), ", at $_SERVER[REQUEST_URI]\n";
