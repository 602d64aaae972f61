<?php
// The front controller: every address that is no file beside this one.
require __DIR__ . '/../vendor/autoload.php';

(new Shop\Router())->answer($_SERVER['REQUEST_METHOD'], parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
