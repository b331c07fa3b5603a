'use strict'
// Hypercores, each named by its hex key after `core.open`.

const hypercore = require('hypercore')
const crypto = require('hypercore-crypto')
const ram = require('random-access-memory')
const { call } = require('./promise')
const { decode, pattern, sha256 } = require('./data')

class Cores {
  constructor (store) {
    this._store = store
  }

  // A core by key, by name (derived from the master key) or by seed; a new random one when none is given.
  async open ({ key = null, name = null, seed = null, sparse = true }) {
    const options = { sparse }
    if (key !== null) options.key = Buffer.from(key, 'hex')
    else if (seed !== null) options.keyPair = crypto.keyPair(Buffer.from(seed, 'hex'))
    else if (name !== null) options.name = name
    const core = this._store.corestore.get(options)
    await call(core, 'ready')
    this._store.opened.set(core.key.toString('hex'), core)
    return this.info({ core: core.key.toString('hex') })
  }

  info ({ core }) {
    const feed = this._core(core)
    return {
      key: feed.key.toString('hex'),
      discoveryKey: feed.discoveryKey.toString('hex'),
      writable: feed.writable,
      length: feed.length,
      byteLength: feed.byteLength,
      downloaded: feed.downloaded(0, feed.length),
      peers: feed.peers.length,
      stats: feed.stats.totals
    }
  }

  // Append `blocks`, or `count` blocks of `size` bytes, in batches of `batch`.
  async append ({ core, blocks = null, count = 0, size = 0, seed = 0, batch = 500 }) {
    const feed = this._core(core)
    const all = this._blocks(blocks, count, size, seed)
    for (let start = 0; start < all.length; start += batch) {
      await call(feed, 'append', all.slice(start, start + batch))
    }
    return { length: feed.length, byteLength: feed.byteLength }
  }

  // A core that never grows: its key is the hash of its tree, and nothing is signed. The store serves a copy of it.
  async openStatic ({ blocks = null, count = 0, size = 0, seed = 0 }) {
    const made = hypercore(() => ram(), { live: false })
    await call(made, 'ready')
    await call(made, 'append', this._blocks(blocks, count, size, seed))
    await call(made, 'finalize')
    const copy = this._store.corestore.get({ key: made.key, sparse: true })
    await call(copy, 'ready')
    const stream = made.replicate(true, { live: true })
    const other = copy.replicate(false, { live: true })
    for (const end of [stream, other]) end.on('error', () => {}) // being destroyed is how they end
    stream.pipe(other).pipe(stream)
    await call(copy, 'download', { start: 0, end: made.length })
    stream.destroy()
    this._store.opened.set(made.key.toString('hex'), copy)
    return this.info({ core: made.key.toString('hex') })
  }

  async get ({ core, index }) {
    const block = await call(this._core(core), 'get', index)
    return { base64: block.toString('base64') }
  }

  async seek ({ core, byteOffset }) {
    return new Promise((resolve, reject) => {
      this._core(core).seek(byteOffset, (error, index, relative) => error ? reject(error) : resolve({ index, relative }))
    })
  }

  // Download [start, end) and tell the SHA-256 of the joined blocks.
  async sha256 ({ core, start = 0, end = null }) {
    const feed = this._core(core)
    const stop = end === null ? feed.length : end
    // Of what is all here already, a download would never report the end.
    if (feed.downloaded(start, stop) < stop - start) await call(feed, 'download', { start, end: stop })
    const blocks = []
    for (let index = start; index < stop; index++) blocks.push(await call(feed, 'get', index))
    const bytes = Buffer.concat(blocks)
    return { sha256: sha256(bytes), size: bytes.length }
  }

  // Wait until the core is at least `length` long; without one, ask the peers for what is newest.
  async update ({ core, length = null }) {
    const feed = this._core(core)
    if (length !== null) await call(feed, 'update', { minLength: length, ifAvailable: false })
    else await call(feed, 'update', { ifAvailable: true }).catch(() => {})
    return { length: feed.length, byteLength: feed.byteLength }
  }

  async has ({ core, start, end }) {
    return { count: this._core(core).downloaded(start, end) }
  }

  async clear ({ core, start, end }) {
    await call(this._core(core), 'clear', start, end)
    return {}
  }

  async proof ({ core, index, digest = 0, hash = false }) {
    const proof = await call(this._core(core), 'proof', index, { digest, hash })
    return {
      nodes: proof.nodes.map(node => ({ index: node.index, hash: node.hash.toString('hex'), size: node.size })),
      signature: proof.signature && proof.signature.toString('hex')
    }
  }

  // Speak an extension whose messages are JSON, and send each one that comes back in an array.
  echo ({ core, name }) {
    const extension = this._core(core).registerExtension(name, {
      encoding: 'json',
      onmessage: (message, peer) => extension.send([message], peer)
    })
    return {}
  }

  async audit ({ core }) {
    return call(this._core(core), 'audit')
  }

  async close ({ core }) {
    await call(this._core(core), 'close')
    this._store.opened.delete(core)
    return {}
  }

  _blocks (blocks, count, size, seed) {
    return blocks !== null
      ? blocks.map(decode)
      : Array.from({ length: count }, (_, index) => pattern(`${seed}/${index}`, size))
  }

  _core (key) {
    const core = this._store.opened.get(key)
    if (!core) throw new Error(`no such core is open: ${key}`)
    return core
  }
}

module.exports = { Cores }
