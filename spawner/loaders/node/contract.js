'use strict';
// The loader for Node: what it says to the spawner. The program is README.md's files in their order, joined to one
// text, which bootstrap.js makes one function of: nothing here is global.

const fs = require('fs');
const path = require('path');
const util = require('util');

const OLDEST = 18;
const CONTROL = 5;
const LISTENER = 3;
// A packet has at most 32 KiB, in bytes; a sentence that long helps nobody.
const LONGEST_FIELD = 4096;

// Until one of these is true, the end of this process is the failure of its start.
let listens = false;
let told = false;

function shorten(text) {
  const field = String(text).replace(/\0/g, ' ');
  const bytes = Buffer.from(field);
  if (bytes.length <= LONGEST_FIELD) return field;
  return bytes.subarray(0, LONGEST_FIELD).toString().replace(/\ufffd$/, '') + '…';
}

// To a packet socket one write is one packet.
function fail({ code, problem, remedy }) {
  if (listens || told) return;
  told = true;
  say(`hatchery: ${problem}: ${remedy}`);
  try {
    fs.writeSync(CONTROL, ['failed', code, problem, remedy].map(shorten).join('\0'));
  } catch (error) {
    say(`hatchery: the spawner can't be told: ${error.message}`);
  }
}

// Not through process.stderr: what is written to a pipe there may be lost at the end of the process.
function say(line) {
  try {
    fs.writeSync(2, line + '\n');
  } catch {
    // Nobody reads what this process says; there is nobody else to tell.
  }
}

// The first server listens: there is no more to say.
function opened() {
  if (listens) return;
  listens = true;
  try {
    fs.closeSync(CONTROL);
  } catch (error) {
    say(`hatchery: the spawner's channel can't be closed: ${error.message}`);
  }
}
