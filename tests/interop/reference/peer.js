'use strict'
// A peer of the reference implementation, driven over stdin and stdout.
//
// One JSON object a line comes in, { id, method, params }, and one a line goes out, { id, result } or { id, error }.
// Commands run beside each other: a wait for an update does not hold up the append that ends it. The methods are those
// of lib/*.js, named `group.method`; keys and hashes are hex, bytes are given as lib/data.js says. The process ends when
// its stdin does.

const readline = require('readline')
const { Network } = require('./lib/network')
const { Cores } = require('./lib/cores')
const { Dht } = require('./lib/dht')
const { Discovery } = require('./lib/discovery')
const { Drives } = require('./lib/drives')
const { Tries } = require('./lib/tries')
const { openStore } = require('./lib/store')
const { Swarm } = require('./lib/swarm')
const { Utp } = require('./lib/utp')
const { Wire } = require('./lib/wire')

let groups = null
let store = null

async function open ({ storage = null, masterKey = null }) {
  if (store) throw new Error('the store is open already')
  store = await openStore(storage, masterKey)
  const cores = new Cores(store)
  groups = {
    net: new Network(store),
    core: cores,
    drive: new Drives(store),
    trie: new Tries(cores),
    wire: new Wire(),
    dht: new Dht(),
    discovery: new Discovery(),
    swarm: new Swarm(store),
    utp: new Utp()
  }
  return {}
}

async function close () {
  if (!store) return {}
  groups.dht.close()
  groups.discovery.close()
  await groups.swarm.close()
  groups.utp.close()
  await groups.net.close()
  await store.shut()
  return {}
}

async function run (method, params) {
  if (method === 'open') return open(params)
  if (method === 'close') return close()
  if (!groups) throw new Error(`open the store before ${method}`)
  const [group, name] = method.split('.')
  if (!groups[group] || name === undefined || name.startsWith('_') || typeof groups[group][name] !== 'function') {
    throw new Error(`no such method: ${method}`)
  }
  return groups[group][name](params)
}

function answer (message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

async function handle (line) {
  const { id, method, params } = JSON.parse(line)
  try {
    const result = await run(method, params || {})
    answer({ id, result: result === undefined ? null : result })
  } catch (error) {
    console.error(`${method}: ${error.stack}`)
    answer({ id, error: `${error.message}`, errno: error.errno === undefined ? null : error.errno })
  }
  if (method === 'close') process.exit(0)
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', handle)
lines.on('close', () => process.exit(0))
