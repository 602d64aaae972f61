// From what went wrong at the start to a sentence.

const MOST_FILES = 20;

function explain(error) {
  if (!(error instanceof Error) && !util.types.isNativeError(error)) {
    return exception(`the app threw ${util.inspect(error, { depth: 1, breakLength: Infinity })} while it was loaded`);
  }
  const known = error instanceof SyntaxError ? syntax(error) : missing(error);
  return known || exception(`the app threw ${headline(error)} while it was loaded`);
}

function exception(problem) {
  return { code: 'exception', problem, remedy: 'see the stack in its output' };
}

// `Name: message` in one line, with the place.
function headline(error) {
  const message = String(error.message).split('\n')[0];
  const place = placeOf(error);
  return `${error.name || 'Error'}${message ? `: ${message}` : ''}${place ? ` (${place})` : ''}`;
}

// The first line of the app's own in a stack, as `file:line`.
function placeOf(error) {
  const frames = String(error.stack).split('\n').filter((line) => /^\s+at /.test(line));
  const places = frames.map((line) => /\(?((?:file:\/\/)?\/[^()]*?):(\d+):\d+\)?$/.exec(line)).filter(Boolean);
  const own = places.find(([, file]) => !file.includes('/node_modules/')) || places[0];
  return own && `${plain(own[1])}:${own[2]}`;
}

function plain(file) {
  return file.startsWith('file://') ? require('url').fileURLToPath(file) : file;
}

// A file that can't be compiled; a SyntaxError of JSON.parse, for example, is none.
function syntax(error) {
  const stack = String(error.stack);
  let place = /^((?:file:\/\/)?\/.+):(\d+)$/.exec(stack.split('\n')[0]);
  const first = stack.split('\n').find((line) => /^\s+at /.test(line)) || '';
  if (!place && !/node:internal\/(modules|vm)/.test(first)) return null;
  place = place || checked(process.argv[1]);
  const where = place ? `${plain(place[1])} has a syntax error in line ${place[2]}` : 'a file has a syntax error';
  const remedy = 'mend that line (`node --check FILE` checks a file)';
  return { code: 'syntax', problem: `${where}: ${error.message}`, remedy };
}

// Of an ES module node tells the place to standard error alone: it is asked about the entry, and what that imports.
function checked(entry) {
  const files = [entry];
  for (let at = 0; at < files.length && at < MOST_FILES; at++) {
    const options = { encoding: 'utf8', env: {} };
    const run = require('child_process').spawnSync(process.execPath, ['--check', files[at]], options);
    const place = run.status !== 0 && /^((?:file:\/\/)?\/.+):(\d+)$/m.exec(run.stderr);
    if (place) return place;
    let source = '';
    try {
      source = fs.readFileSync(files[at], 'utf8');
    } catch {
      continue; // Then it isn't the file with the mistake.
    }
    for (const [, name] of source.matchAll(/\b(?:from|import)\s*\(?\s*['"](\.{1,2}\/[^'"]+)['"]/g)) {
      const file = path.resolve(path.dirname(files[at]), name);
      if (!files.includes(file)) files.push(file);
    }
  }
  return null;
}

function missing(error) {
  if (error.code === 'ERR_DLOPEN_FAILED') {
    return { code: 'module', problem: `a native module can't be loaded: ${headline(error)}`,
      remedy: `run \`npm rebuild\` in ${process.cwd()} with this node (${process.execPath}, ${process.version})` };
  }
  if (error.code !== 'MODULE_NOT_FOUND' && error.code !== 'ERR_MODULE_NOT_FOUND') return null;
  const name = (/Cannot find (?:package|module) '([^']+)'/.exec(error.message) || [])[1];
  if (!name) return null;
  const from = error.requireStack ? error.requireStack[0] : (/imported from (.+)$/m.exec(error.message) || [])[1];
  const importer = from ? `, which ${plain(from)} asks for` : '';
  if (/^\.{0,2}\//.test(name)) {
    const problem = `the file ${name} is missing${importer}`;
    return { code: 'module', problem, remedy: 'add the file, or mend its name there' };
  }
  const packageName = name.split('/').slice(0, name.startsWith('@') ? 2 : 1).join('/');
  const known = fs.existsSync('package.json');
  const remedy = isListed(packageName) ? `run \`npm install\` in ${process.cwd()}`
    : `run \`npm install ${packageName}\` in ${process.cwd()}${known ? ', which notes it in package.json' : ''}`;
  return { code: 'module', problem: `the package ${packageName} is missing${importer}`, remedy };
}

function isListed(name) {
  try {
    const { dependencies, optionalDependencies, devDependencies } = JSON.parse(fs.readFileSync('package.json', 'utf8'));
    return name in { ...dependencies, ...optionalDependencies, ...devDependencies };
  } catch {
    return false; // No package.json, or one that node itself complains of.
  }
}
