const fs = require('fs');

const server = require('http').createServer((request, response) => {
  response.end(`${process.argv.slice(2)} ${fs.readFileSync('built', 'utf8').trim()} ${request.url}`);
});
server.listen(process.env.PORT);
