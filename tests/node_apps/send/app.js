const server = require('http').createServer((request, response) => response.end('ready'));
server.listen(8000, () => process.send('ready'));
process.on('SIGINT', () => server.close());
