const cluster = require('cluster');
const http = require('http');

if (cluster.isPrimary) {
  for (let worker = 0; worker < 2; worker++) cluster.fork();
  cluster.on('exit', () => cluster.fork());
} else {
  http.createServer((request, response) => {
    if (request.url === '/exit') process.exit(1);
    response.setHeader('Connection', 'close');
    response.end(`${process.ppid} ${process.pid}`);
  }).listen(3000);
}
