//! The ways to fail. `ROOT` stands for the app's folder, `PYTHON` for an interpreter that works.

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) manifest: &'static str,
    pub(crate) files: &'static [(&'static str, &'static str)],
    pub(crate) options: &'static [&'static str],
    pub(crate) step: &'static str,
    pub(crate) exit: Ended,
    /// What is in each of these.
    pub(crate) problem: &'static [&'static str],
    pub(crate) remedy: &'static [&'static str],
    pub(crate) output: &'static [&'static str],
}

#[derive(Clone, Copy)]
pub(crate) enum Ended {
    Not,
    Status(i32),
    Signal(i32),
}

const WSGI: &str = "type = \"wsgi\"\nentry = \"shop.py\"\ninterpreter = \"PYTHON\"\n";
const SHELL: &str = "command = [\"sh\", \"start.sh\"]\n";
const PROGRAM: &str = "command = [\"PYTHON\", \"shop.py\"]\n";
const AT_A_PORT: &str = "command = [\"sh\", \"start.sh\"]\nlisten = \"port\"\n";
const AT_A_PATH: &str = "command = [\"PYTHON\", \"shop.py\", \"{socket}\"]\nlisten = \"socket\"\n";
/// Long enough to begin on a machine that is busy.
const SOON: &[&str] = &["--start-timeout", "3s"];

const PLAIN: Case = Case {
    name: "",
    manifest: WSGI,
    files: &[],
    options: &[],
    step: "load",
    exit: Ended::Status(1),
    problem: &[],
    remedy: &[],
    output: &[],
};

pub(crate) const LOADED: [Case; 8] = [
    Case {
        name: "syntax error",
        files: &[("shop.py", "import os\ndef kettle(:\n    pass\n")],
        problem: &["ROOT/shop.py, line 2: invalid syntax"],
        remedy: &["Correct it", "Python 3."],
        output: &["def kettle(:", "SyntaxError"],
        ..PLAIN
    },
    Case {
        name: "missing module",
        files: &[("shop.py", "import os\nimport kettle_of_nowhere\n")],
        problem: &["ROOT/shop.py, line 2 needs the module kettle_of_nowhere"],
        remedy: &["PYTHON -m pip install kettle_of_nowhere"],
        output: &["ModuleNotFoundError: No module named 'kettle_of_nowhere'"],
        ..PLAIN
    },
    Case {
        name: "missing application",
        files: &[("shop.py", "def serve(environ, start_response):\n    pass\n")],
        problem: &["ROOT/shop.py has no `application` or `app`"],
        remedy: &["entry = \"shop.py:NAME\"", "it has serve"],
        ..PLAIN
    },
    Case {
        name: "missing entry",
        files: &[("other.py", "")],
        problem: &["there is no file ROOT/shop.py"],
        remedy: &["`entry`"],
        ..PLAIN
    },
    Case {
        name: "exception at import",
        files: &[("shop.py", "def boil():\n    raise ValueError('no <water> in the kettle')\n\nboil()\n")],
        problem: &["ROOT/shop.py, line 2: ValueError: no <water> in the kettle"],
        remedy: &["traceback"],
        output: &["line 4, in <module>", "ValueError: no <water> in the kettle"],
        ..PLAIN
    },
    Case {
        name: "exit at import",
        files: &[("shop.py", "import sys\nprint('good bye')\nsys.exit(0)\n")],
        problem: &["ROOT/shop.py, line 3 left while the app was imported, with 0"],
        remedy: &["if __name__ == \"__main__\":"],
        output: &["good bye"],
        ..PLAIN
    },
    Case {
        name: "out of memory at import",
        files: &[("shop.py", "water = bytearray(1 << 30)\n")],
        options: &["--limit-as", "512M"],
        problem: &["ROOT/shop.py, line 1: it got no more memory"],
        remedy: &["Raise its limit_as (512M)"],
        output: &["MemoryError"],
        ..PLAIN
    },
    Case {
        name: "start time over at import",
        files: &[("shop.py", "import time\nprint('the kettle is slow')\ntime.sleep(600)\n")],
        options: SOON,
        exit: Ended::Signal(9),
        problem: &["it had not loaded the application within 3s"],
        remedy: &["start_timeout"],
        output: &["the kettle is slow"],
        ..PLAIN
    },
];

const UNKNOWN: Case = Case { step: "inspect", exit: Ended::Not, ..PLAIN };
const UNEXECUTED: Case = Case { step: "execute", exit: Ended::Not, ..PLAIN };

pub(crate) const EXECUTED: [Case; 5] = [
    Case {
        name: "interpreter that is not there",
        manifest: "type = \"wsgi\"\nentry = \"shop.py\"\ninterpreter = \"/nowhere/python3\"\n",
        files: &[("shop.py", "")],
        problem: &["shop.py is to be run by /nowhere/python3, which is not there"],
        remedy: &["`interpreter` in hatchery.toml"],
        ..UNKNOWN
    },
    Case {
        name: "interpreter that is not on the PATH",
        manifest: "type = \"wsgi\"\nentry = \"shop.py\"\ninterpreter = \"python9\"\n",
        files: &[("shop.py", "")],
        problem: &["shop.py needs python9, and there is none on the PATH"],
        remedy: &["Install it", "interpreter = \"/path/to/python9\""],
        ..UNKNOWN
    },
    Case {
        name: "program that is not on the PATH",
        manifest: "command = [\"kettle-of-nowhere\", \"start.sh\"]\n",
        problem: &["kettle-of-nowhere is not on the PATH"],
        remedy: &["Install kettle-of-nowhere", "PATH"],
        ..UNEXECUTED
    },
    Case {
        name: "script whose interpreter is not there",
        manifest: "command = [\"./start.sh\"]\n",
        files: &[("start.sh", "#!/nowhere/bash\n")],
        problem: &["./start.sh is there, but /nowhere/bash, which its #! line names, is not"],
        remedy: &["Install /nowhere/bash"],
        ..UNEXECUTED
    },
    Case {
        name: "program that is not there",
        manifest: "command = [\"./start.sh\"]\n",
        problem: &["./start.sh does not exist"],
        remedy: &["Correct the start command", "app's folder"],
        ..UNEXECUTED
    },
];

const STARTED: Case = Case { step: "ready", manifest: SHELL, ..PLAIN };

pub(crate) const ENDED: [Case; 5] = [
    Case {
        name: "exit 0 at once",
        files: &[("start.sh", "echo good bye\nexit 0\n")],
        exit: Ended::Status(0),
        problem: &["its start command ended at once, with exit status 0"],
        remedy: &["must stay in the foreground"],
        output: &["good bye"],
        ..STARTED
    },
    Case {
        name: "exit 1 with output",
        files: &[("start.sh", "echo the kettle is empty >&2\nexit 1\n")],
        problem: &["its start command ended before it was ready, with exit status 1"],
        remedy: &["Its last output should say why."],
        output: &["the kettle is empty"],
        ..STARTED
    },
    Case {
        name: "killed by a signal",
        files: &[("start.sh", "echo boiling\nkill -SEGV $$\n")],
        exit: Ended::Signal(11),
        problem: &["its start command crashed before it was ready (SIGSEGV)"],
        remedy: &["debugger"],
        output: &["boiling"],
        ..STARTED
    },
    Case {
        name: "killed from outside at import",
        manifest: WSGI,
        files: &[("shop.py", "import os\nprint('boiling')\nos.kill(os.getpid(), 9)\n")],
        step: "load",
        exit: Ended::Signal(9),
        problem: &["the process that loads the application was killed", "SIGKILL"],
        remedy: &["dmesg"],
        output: &["boiling"],
        ..STARTED
    },
    Case {
        name: "out of memory",
        manifest: PROGRAM,
        files: &[("shop.py", "water = bytearray(1 << 30)\n")],
        options: &["--limit-as", "512M"],
        problem: &["it got no more memory: MemoryError"],
        remedy: &["Raise its limit_as"],
        output: &["MemoryError"],
        ..STARTED
    },
];

const KILLED: Case = Case { exit: Ended::Signal(9), options: SOON, ..STARTED };

pub(crate) const UNREACHED: [Case; 5] = [
    Case {
        name: "start time over",
        files: &[("start.sh", "echo the kettle is slow\nexec sleep 600\n")],
        problem: &["it was not ready within 3s and was killed"],
        remedy: &["descriptor 3", "start_timeout"],
        output: &["the kettle is slow"],
        ..KILLED
    },
    Case {
        name: "port never bound",
        manifest: AT_A_PORT,
        files: &[("start.sh", "echo no port for me\nexec sleep 600\n")],
        problem: &["nothing of it listened on 127.0.0.1 at port ", " within 3s"],
        remedy: &["PORT", "{port}", "start_timeout"],
        output: &["no port for me"],
        ..KILLED
    },
    Case {
        name: "a socket of its own",
        manifest: PROGRAM,
        files: &[(
            "shop.py",
            "import socket, time\nsocket.create_server(('127.0.0.1', 0)).listen()\n\
             print('Listening on http://127.0.0.1:3000', flush=True)\ntime.sleep(600)\n",
        )],
        problem: &["it seems to listen elsewhere: Listening on http://127.0.0.1:3000"],
        remedy: &["descriptor 3", "listen = \"port\""],
        output: &["Listening on http://127.0.0.1:3000"],
        ..KILLED
    },
    Case {
        name: "no socket at its path",
        manifest: AT_A_PATH,
        files: &[("shop.py", "import time\nprint('no socket for me', flush=True)\ntime.sleep(600)\n")],
        problem: &["it did not answer at ", "app.sock within 3s"],
        remedy: &["{socket}", "start_timeout"],
        output: &["no socket for me"],
        ..KILLED
    },
    Case {
        name: "a file where its socket should be",
        manifest: AT_A_PATH,
        files: &[(
            "shop.py",
            "import sys, time\nprint('a file for you', flush=True)\nopen(sys.argv[1], 'w')\ntime.sleep(600)\n",
        )],
        options: &[],
        exit: Ended::Not,
        problem: &["app.sock is a file, not a socket"],
        remedy: &["listening stream socket", "{socket}"],
        output: &["a file for you"],
        ..KILLED
    },
];
