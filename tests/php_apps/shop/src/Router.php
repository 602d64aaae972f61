<?php
namespace Shop;

class Router
{
    private const ROUTES = [
        'GET /' => 'welcome',
        'GET /pid' => 'pid',
        'POST /form' => 'form',
        'POST /json' => 'json',
        'POST /upload' => 'upload',
        'GET /count' => 'count',
        'GET /slow' => 'slow',
        'GET /stream' => 'stream',
        'GET /raise' => 'raise',
    ];

    public function answer(string $method, string $path): void
    {
        if (preg_match('{^/products/(\d+)$}', $path, $found)) {
            echo "product $found[1]";
            return;
        }
        $route = self::ROUTES["$method $path"] ?? 'missing';
        $this->$route();
    }

    private function welcome(): void
    {
        echo 'Hello from PHP';
    }

    private function pid(): void
    {
        echo getmypid();
    }

    private function form(): void
    {
        header('Location: /thanks?' . http_build_query($_POST), true, 303);
    }

    private function json(): void
    {
        header('Content-Type: application/json');
        $asked = json_decode(file_get_contents('php://input'), true, flags: JSON_THROW_ON_ERROR);
        echo json_encode(['twice' => 2 * $asked['number']]);
    }

    private function upload(): void
    {
        $file = $_FILES['file'];
        $content = file_get_contents($file['tmp_name']);
        echo "$file[name] $file[size] $file[error] ", md5($content), ' ', $_POST['note'];
    }

    private function count(): void
    {
        session_start();
        echo $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
    }

    /** Until the file is there: a test decides when. */
    private function slow(): void
    {
        $this->waitFor($_GET['until']);
        echo getmypid();
    }

    private function stream(): void
    {
        echo getmypid();
        ob_flush();
        flush();
        $this->waitFor($_GET['until']);
        echo ' done';
    }

    private function waitFor(string $file): void
    {
        while (!file_exists($file)) {
            usleep(5000);
            clearstatcache();
        }
    }

    private function raise(): void
    {
        throw new \LogicException('this went wrong');
    }

    private function missing(): void
    {
        http_response_code(404);
        echo 'nothing here';
    }
}
