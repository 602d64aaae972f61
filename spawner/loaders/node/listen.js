// The first server that listens has descriptor 3, wherever it wanted to listen.

const net = require('net');

// For so long a server that was closed may be followed by another; connections wait meanwhile.
const PAUSE = 1000;
const MOST_HELD = 128;

const listenWhereAsked = net.Server.prototype.listen;
const createHandle = net._createServerHandle;

// What has the descriptor: `free`, `taken`, `parked` (its server was closed a moment ago), `shared` (by a cluster whose
// children accept themselves) or `gone`.
let state = 'free';
let handle = null;
// What its server asked for.
let place = null;
let held = [];
let pause = null;

net.Server.prototype.listen = function listen(...args) {
  // It refuses itself, and mustn't have the descriptor.
  if (this._handle) return listenWhereAsked.apply(this, args);
  const asked = understand(args);
  if (state === 'free') return listenThere(this, asked);
  if (state === 'parked') return listenAgain(this, asked);
  if (state === 'gone' && samePlace(asked)) return refuse(this);
  return samePlace(asked) ? listenNowhere(this, asked) : listenWhereAsked.apply(this, args);
};

// A cluster whose children accept themselves makes no server, but a handle to pass on.
net._createServerHandle = function (...args) {
  if (state === 'shared' && args[1] === place.port) return handle;
  if (state !== 'free') return createHandle.apply(this, args);
  const made = createHandle.call(this, null, null, -1, LISTENER);
  if (typeof made === 'number') return made;
  handle = made;
  state = 'shared';
  place = { port: args[1], host: args[0] };
  // Children come and go; the next ones get it again.
  handle.close = () => {};
  opened();
  return handle;
};

// The forms of `listen`, as far as they matter here.
function understand(args) {
  const callback = typeof args[args.length - 1] === 'function' ? args[args.length - 1] : null;
  const [first, second, third] = callback ? args.slice(0, -1) : args;
  if (first !== null && typeof first === 'object') {
    const { path: name, port, host, backlog, signal } = first;
    return { path: name, port: toPort(port), host, backlog, signal, callback };
  }
  if (typeof first === 'string' && toPort(first) === undefined) return { path: first, backlog: second, callback };
  const host = typeof second === 'string' ? second : undefined;
  return { port: toPort(first), host, backlog: typeof second === 'number' ? second : third, callback };
}

function toPort(value) {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && /^\s*\d+\s*$/.test(value) ? Number(value) : undefined;
}

function samePlace(asked) {
  return asked.path === undefined ? asked.port > 0 && asked.port === place.port : asked.path === place.path;
}

function listenThere(server, asked) {
  place = asked;
  const options = { fd: LISTENER, backlog: asked.backlog, signal: asked.signal };
  if (options.signal === undefined) delete options.signal;
  listenWhereAsked.call(server, options, asked.callback || undefined);
  if (!server._handle) return server; // It says why by an 'error'.
  handle = server._handle;
  state = 'taken';
  keepAtClose();
  tell(server, asked);
  opened();
  return server;
}

// What the app is told of where it listens, and prints: what it asked for.
function tell(server, asked) {
  if (asked.path !== undefined) {
    server._pipeName = asked.path;
    delete server._handle.getsockname;
    return;
  }
  const host = asked.host === 'localhost' ? '127.0.0.1' : asked.host;
  const address = net.isIP(host || '') ? host : host ? '0.0.0.0' : '::';
  const port = asked.port || 0;
  server._handle.getsockname = (out) => {
    Object.assign(out, { address, family: net.isIPv6(address) ? 'IPv6' : 'IPv4', port });
    return 0;
  };
}

// Node can't copy a descriptor: closed it would be gone, and with it the chance to listen anew.
function keepAtClose() {
  const close = handle.close;
  handle.close = function (callback) {
    if (state !== 'taken') return;
    state = 'parked';
    handle.onconnection = (error, client) => {
      if (client) held.length < MOST_HELD ? held.push(client) : client.close();
    };
    handle.unref();
    pause = setTimeout(() => {
      state = 'gone';
      close.call(handle);
      for (const client of held.splice(0)) client.close();
    }, PAUSE);
    pause.unref();
    if (callback) process.nextTick(() => callback.call(handle));
  };
}

function listenAgain(server, asked) {
  clearTimeout(pause);
  state = 'taken';
  place = asked;
  if (asked.callback) server.once('listening', asked.callback);
  if (asked.signal) closeWhen(asked.signal, server);
  handle.ref();
  listenWith(server, handle, asked);
  server.once('listening', () => setImmediate(() => {
    for (const client of held.splice(0)) handle.onconnection(0, client);
  }));
  return server;
}

function closeWhen(signal, server) {
  if (signal.aborted) process.nextTick(() => server.close());
  else signal.addEventListener('abort', () => server.close(), { once: true });
}

function listenWith(server, given, asked) {
  server._handle = given;
  // What `listen` itself does once it has a handle, and how cluster's children use it.
  server._listen2(null, asked.port || 0, asked.path === undefined ? 4 : -1, asked.backlog);
  tell(server, asked);
}

// The same port at another address (`localhost` may be two): whoever comes there comes to the first server.
function listenNowhere(server, asked) {
  if (asked.callback) server.once('listening', asked.callback);
  listenWith(server, { listen: () => 0, close() {}, ref() {}, unref() {} }, asked);
  return server;
}

function refuse(server) {
  const error = new Error(`hatchery: the server of this worker was closed more than ${PAUSE} ms ago, and its socket ` +
    'with it: listen anew sooner, or let the process end');
  error.code = 'EADDRNOTAVAIL';
  process.nextTick(() => server.emit('error', error));
  return server;
}
