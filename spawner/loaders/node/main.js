// From a process that evaluated a line to one that runs the app's entry by itself.

const Module = require('module');

function main() {
  const [, , asked] = process.argv;
  forgetTheLine();
  const entry = path.resolve(asked);
  process.argv = [process.execPath, entry];
  watch();
  if (Number(process.versions.node.split('.')[0]) < OLDEST) {
    return leave({ code: 'runtime', problem: `node ${process.version} is too old for this loader`,
      remedy: `use node ${OLDEST} or newer` });
  }
  if (!isThere(entry)) {
    return leave({ code: 'entry', problem: `there is no ${asked} in ${process.cwd()}`,
      remedy: 'add it, or name another file as `entry` in hatchery.toml' });
  }
  // What waits for a parent's word, as the process manager pm2 is told, is heard by nobody here.
  if (typeof process.send !== 'function') process.send = send;
  // Node puts this one back once the line is evaluated.
  process.nextTick(() => { delete globalThis.module; });
  // From a stack of its own: the loader is in no trace of the app's.
  process.nextTick(Module.runMain);
}

function leave(failure) {
  fail(failure);
  process.exitCode = 1;
  process.exit();
}

function isThere(entry) {
  try {
    return Boolean(require.resolve(entry));
  } catch {
    return false;
  }
}

function send(_message, ...rest) {
  const callback = rest.reverse().find((each) => typeof each === 'function');
  if (callback) process.nextTick(callback, null);
  return true;
}

// Node has made globals of its modules for the line that was evaluated, and its children would evaluate it as well.
function forgetTheLine() {
  const at = process.execArgv.lastIndexOf(process._eval);
  if (at > 0) process.execArgv.splice(at - 1, 2);
  delete process._eval;
  const own = ['console', 'process', 'performance', 'navigator'];
  for (const name of [...Module.builtinModules, 'exports', 'require', '__filename', '__dirname']) {
    if (!own.includes(name)) delete globalThis[name];
  }
  // Web cryptography has the name of a module.
  if (!('CryptoKey' in globalThis)) return;
  const get = () => require('crypto').webcrypto;
  Object.defineProperty(globalThis, 'crypto', { configurable: true, enumerable: true, get, set: undefined });
}

// Whatever ends this process before a server listens is told.
function watch() {
  let last = null;
  let idle = false;
  process.on('uncaughtExceptionMonitor', (error) => {
    if (listens) return;
    last = { error };
    // An app that looks after such things itself may well go on.
    if (process.listenerCount('uncaughtException') === 0) fail(explain(error));
  });
  process.on('beforeExit', () => { idle = true; });
  process.on('exit', (status) => {
    if (listens || told) return;
    fail(last ? explain(last.error) : without(status, idle));
    process.exitCode = 1;
  });
}

function without(status, idle) {
  const problem = idle ? 'the app ended without a server that listens'
    : `the app left with process.exit(${status}) while it was loaded`;
  return { code: 'exit', problem, remedy: idle ? 'let it call `listen` of a server, and wait for what comes before that'
    : 'what its output says may tell why; a server must not exit before it is told to' };
}

main();
