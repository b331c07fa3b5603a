'use strict'
// Hyperdrives, each named by its hex key after `drive.open`. Where a version makes sense it may be given.

const crypto = require('crypto')
const hyperdrive = require('hyperdrive')
const { Stat } = require('hyperdrive-schemas')
const { call, collect } = require('./promise')
const { decode, sha256 } = require('./data')

const S_IFMT = 0o170000
const S_IFREG = 0o100000
const S_IFDIR = 0o040000
const WRITE_BATCH = 500

class Drives {
  constructor (store) {
    this._store = store
    this._open = new Map()
    this._checkouts = new Map()
  }

  // The drive of `key`, or one of our own: the store's default one, or that of the namespace `name`.
  async open ({ key = null, name = null }) {
    const drive = hyperdrive(this._store.corestore, key === null ? null : Buffer.from(key, 'hex'), {
      namespace: key === null ? name : null
    })
    drive.on('error', error => console.error(`drive: ${error.stack}`))
    await call(drive, 'ready')
    this._open.set(drive.key.toString('hex'), drive)
    return this.info({ drive: drive.key.toString('hex') })
  }

  async info ({ drive, content = false }) {
    const opened = this._drive(drive)
    const metadata = opened.metadata
    const known = content || await call(metadata, 'has', 0)
    const feed = known ? await call(opened, 'getContent') : null
    return {
      key: opened.key.toString('hex'),
      discoveryKey: opened.discoveryKey.toString('hex'),
      writable: opened.writable,
      version: opened.version,
      metadataByteLength: metadata.byteLength,
      metadataDownloaded: metadata.downloaded(0, metadata.length),
      metadataStats: metadata.stats.totals,
      peers: metadata.peers.length,
      content: feed && {
        key: feed.key.toString('hex'),
        length: feed.length,
        byteLength: feed.byteLength,
        downloaded: feed.downloaded(0, feed.length),
        stats: feed.stats.totals
      }
    }
  }

  // Changes -------------------------------------------------------------------------------------------------------

  // Write a whole file; `stat` may give mode, uid, gid, mtime and ctime.
  async write ({ drive, path, data, stat = {} }) {
    const bytes = decode(data)
    await call(this._drive(drive), 'writeFile', path, bytes, stat)
    return { sha256: sha256(bytes), size: bytes.length, version: this._drive(drive).version }
  }

  // Write many small files in few appends: `files`, each { path, data, stat }, or `count` of them below `prefix`.
  async writeMany ({ drive, files = null, prefix = '', count = 0, size = 10 }) {
    const opened = this._drive(drive)
    const content = await call(opened, 'getContent')
    const all = files !== null
      ? files
      : Array.from({ length: count }, (_, index) => ({ path: `${prefix}/${index}`, data: { size, seed: index } }))
    for (let start = 0; start < all.length; start += WRITE_BATCH) {
      const batch = all.slice(start, start + WRITE_BATCH).map(file => ({ ...file, bytes: decode(file.data) }))
      let offset = content.length
      let byteOffset = content.byteLength
      const operations = batch.map(({ path, bytes, stat = {} }) => {
        const value = Stat.file({ ...stat, offset, byteOffset, size: bytes.length, blocks: 1 }).encode()
        offset += 1
        byteOffset += bytes.length
        return { type: 'put', key: path.replace(/^\/+/, ''), value }
      })
      await call(content, 'append', batch.map(file => file.bytes))
      await call(opened.db.trie, 'batch', operations)
    }
    return { version: opened.version }
  }

  // Write `count` chunks of `size` bytes as one file, without ever holding it whole.
  async writeLarge ({ drive, path, count, size = 1 << 20, stat = {} }) {
    const opened = this._drive(drive)
    const chunk = decode({ size, seed: path })
    const hash = crypto.createHash('sha256')
    const stream = opened.createWriteStream(path, stat)
    const done = new Promise((resolve, reject) => stream.on('finish', resolve).on('error', reject))
    for (let index = 0; index < count; index++) {
      hash.update(chunk)
      if (!stream.write(chunk)) await new Promise(resolve => stream.once('drain', resolve))
    }
    stream.end()
    await done
    return { sha256: hash.digest('hex'), size: count * size, version: opened.version }
  }

  async mkdir ({ drive, path, stat = {} }) {
    await call(this._drive(drive), 'mkdir', path, stat)
    return this._version(drive)
  }

  async symlink ({ drive, path, target }) {
    await call(this._drive(drive), 'symlink', target, path)
    return this._version(drive)
  }

  async unlink ({ drive, path }) {
    await call(this._drive(drive), 'unlink', path)
    return this._version(drive)
  }

  async rmdir ({ drive, path }) {
    await call(this._drive(drive), 'rmdir', path)
    return this._version(drive)
  }

  // Change fields of a node's Stat, such as mode or mtime.
  async change ({ drive, path, stat }) {
    await call(this._drive(drive), '_update', path, stat)
    return this._version(drive)
  }

  async setMetadata ({ drive, path, name, data }) {
    await call(this._drive(drive), 'setMetadata', path, name, decode(data))
    return this._version(drive)
  }

  async removeMetadata ({ drive, path, name }) {
    await call(this._drive(drive), 'removeMetadata', path, name)
    return this._version(drive)
  }

  // Mount another drive (or, with hypercore, a bare core as a file) at `path`; a version fixes it there.
  async mount ({ drive, path, key, version = null, hypercore = false }) {
    const options = { hypercore }
    if (version !== null) options.version = version
    await call(this._drive(drive), 'mount', path, Buffer.from(key, 'hex'), options)
    return this._version(drive)
  }

  async unmount ({ drive, path }) {
    await call(this._drive(drive), 'unmount', path)
    return this._version(drive)
  }

  async tag ({ drive, name, version = null }) {
    const opened = this._drive(drive)
    await call(opened, 'createTag', name, version === null ? opened.version : version)
    return this._version(drive)
  }

  async deleteTag ({ drive, name }) {
    await call(this._drive(drive), 'deleteTag', name)
    return this._version(drive)
  }

  // Questions -----------------------------------------------------------------------------------------------------

  async tags ({ drive }) {
    return Object.fromEntries(await call(this._drive(drive), 'getAllTags'))
  }

  // The stat of the node itself: links are not followed.
  async stat ({ drive, path, version = null }) {
    return describe(await call(this._at(drive, version), 'lstat', path))
  }

  async readdir ({ drive, path = '/', version = null }) {
    return (await call(this._at(drive, version), 'readdir', path)).sort()
  }

  async read ({ drive, path, start = 0, length = null, version = null }) {
    const bytes = await this._read(this._at(drive, version), path, length === null ? { start } : { start, length })
    return { base64: bytes.toString('base64'), sha256: sha256(bytes), size: bytes.length }
  }

  // Everything below `path`, downloaded: path -> stat, with the SHA-256 of each file's bytes unless `content` is false.
  async clone ({ drive, path = '/', version = null, content = true }) {
    const at = this._at(drive, version)
    const entries = {}
    const folders = [path]
    while (folders.length) {
      const folder = folders.pop()
      for (const name of await call(at, 'readdir', folder)) {
        const child = folder === '/' ? `/${name}` : `${folder}/${name}`
        const stat = describe(await call(at, 'lstat', child))
        const kind = stat.mode & S_IFMT
        if (kind === S_IFDIR) folders.push(child)
        if (kind === S_IFREG && content) stat.sha256 = await this._hash(at, child, stat.size)
        entries[child] = stat
      }
    }
    return entries
  }

  async diff ({ drive, other, prefix = '/', version = null }) {
    const changes = []
    const stream = this._at(drive, version).createDiffStream(other, prefix)
    for await (const { type, name, seq } of stream) changes.push({ type, name, seq: seq === undefined ? null : seq })
    return changes
  }

  async history ({ drive }) {
    const nodes = await collect(this._drive(drive).db.trie.history())
    return nodes.map(({ key, seq, flags, hidden, value }) => ({ key, seq, flags, hidden: !!hidden, empty: !value }))
  }

  // Wait until the drive is at `version` or later; without one, ask the peers for what is newest.
  async update ({ drive, version = null }) {
    const feed = this._drive(drive).metadata
    if (version !== null) await call(feed, 'update', { minLength: version, ifAvailable: false })
    else await call(feed, 'update', { ifAvailable: true }).catch(() => {})
    return this._version(drive)
  }

  _version (key) {
    return { version: this._drive(key).version }
  }

  async _read (at, path, options) {
    const chunks = []
    for await (const chunk of at.createReadStream(path, options)) chunks.push(chunk)
    return Buffer.concat(chunks)
  }

  async _hash (at, path, size) {
    const hash = crypto.createHash('sha256')
    if (size) {
      for await (const chunk of at.createReadStream(path)) hash.update(chunk)
    }
    return hash.digest('hex')
  }

  _drive (key) {
    const drive = this._open.get(key)
    if (!drive) throw new Error(`no such drive is open: ${key}`)
    return drive
  }

  _at (key, version) {
    if (version === null) return this._drive(key)
    const name = `${key}+${version}`
    if (!this._checkouts.has(name)) this._checkouts.set(name, this._drive(key).checkout(version))
    return this._checkouts.get(name)
  }
}

function describe (stat) {
  const { mode, uid, gid, size, blocks, offset, byteOffset, linkname, mount } = stat
  const metadata = {}
  for (const [name, value] of Object.entries(stat.metadata || {})) metadata[name] = value && value.toString('hex')
  return {
    mode,
    uid,
    gid,
    size,
    blocks,
    offset,
    byteOffset,
    mtime: Number(stat.mtime),
    ctime: Number(stat.ctime),
    linkname: linkname || null,
    metadata,
    mount: mount && { key: mount.key.toString('hex'), version: mount.version || null, hypercore: !!mount.hypercore }
  }
}

module.exports = { Drives }
