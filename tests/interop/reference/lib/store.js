'use strict'
// One store a process: a corestore in a directory, or in memory.

const Corestore = require('corestore')
const ram = require('random-access-memory')
const { call } = require('./promise')

class Store {
  constructor (corestore) {
    this.corestore = corestore
    this.opened = new Map() // hex key -> hypercore
    corestore.on('feed', core => core.ready(() => core.key && this.opened.set(core.key.toString('hex'), core)))
  }

  // Close every core that is open, so that its files are whole and its locks are gone.
  async shut () {
    for (const core of this.opened.values()) {
      if (!core.closed) await call(core, 'close')
    }
  }
}

async function openStore (storage, masterKey) {
  const corestore = new Corestore(storage === null ? name => ram() : storage, {
    masterKey: masterKey === null ? null : Buffer.from(masterKey, 'hex')
  })
  corestore.on('error', error => console.error(`store: ${error.stack}`))
  await corestore.ready()
  return new Store(corestore)
}

module.exports = { openStore }
