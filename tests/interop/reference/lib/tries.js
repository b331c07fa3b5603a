'use strict'
// Hypertries without a drive on top, each named by the hex key of its core.

const hypertrie = require('hypertrie')
const { call, collect } = require('./promise')
const { decode } = require('./data')

class Tries {
  constructor (cores) {
    this._cores = cores
    this._open = new Map()
  }

  // A trie on the core that `core.open` opened. `colliding` hashes keys so that their parts collide.
  async open ({ core, colliding = false }) {
    const trie = hypertrie(null, { feed: this._cores._core(core), hash: colliding ? collidingHash : null })
    await call(trie, 'ready')
    this._open.set(core, trie)
    return { version: trie.version }
  }

  // Operations { type: 'put' | 'del', key, value, hidden, flags }, in one append or each on its own.
  async batch ({ trie, operations, together = true }) {
    const db = this._trie(trie)
    const all = operations.map(operation => ({
      ...operation,
      value: operation.value === undefined || operation.value === null ? null : decode(operation.value)
    }))
    if (together) {
      await call(db, 'batch', all)
    } else {
      for (const { type, key, value, hidden, flags } of all) {
        if (type === 'del') await call(db, 'del', key, { hidden })
        else await call(db, 'put', key, value, { hidden, flags })
      }
    }
    return { version: db.version }
  }

  // The bytes of all blocks, the header's included.
  async blocks ({ trie }) {
    const feed = this._trie(trie).feed
    const blocks = []
    for (let index = 0; index < feed.length; index++) blocks.push((await call(feed, 'get', index)).toString('base64'))
    return blocks
  }

  async get ({ trie, key, hidden = false, version = null }) {
    return node(await call(this._at(trie, version), 'get', key, { hidden }))
  }

  async list ({ trie, prefix = '', version = null, ...options }) {
    return (await collect(this._at(trie, version).iterator(prefix, options))).map(node)
  }

  async diff ({ trie, other, prefix = '', version = null, ...options }) {
    const changes = await collect(this._at(trie, version).diff(other, prefix, options))
    return changes.map(change => ({ key: change.key, left: node(change.left), right: node(change.right) }))
  }

  async history ({ trie }) {
    return (await collect(this._trie(trie).history())).map(node)
  }

  _at (key, version) {
    const trie = this._trie(key)
    return version === null ? trie : trie.checkout(version)
  }

  _trie (key) {
    const trie = this._open.get(key)
    if (!trie) throw new Error(`no such trie is open: ${key}`)
    return trie
  }
}

// Eight bytes a part, of which only the first differs, and that has four values.
function collidingHash (key) {
  const parts = key.split('/')
  if (parts[0] === '') parts.shift()
  if (parts[parts.length - 1] === '') parts.pop()
  const hash = Buffer.alloc(8 * parts.length)
  parts.forEach((part, index) => { hash[8 * index] = Buffer.from(part).reduce((sum, byte) => sum + byte, 0) % 4 })
  return hash
}

function node (found) {
  if (!found) return null
  return {
    key: found.key,
    seq: found.seq,
    flags: found.flags || 0,
    hidden: !!found.hidden,
    value: found.value ? { base64: found.value.toString('base64') } : null
  }
}

module.exports = { Tries }
