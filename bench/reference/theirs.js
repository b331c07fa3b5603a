'use strict'
// The reference implementation's side of the bench: theirs.js WORK JSON does one piece of work once and prints
// { seconds, amount } as its last line. What is timed is the work alone, not starting up or opening.

const path = require('path')
const reference = path.join(__dirname, '..', '..', 'tests', 'interop', 'reference')
const load = name => require(require.resolve(name, { paths: [reference] }))

const fs = require('fs')
const net = require('net')
const Corestore = load('corestore')
const hypercore = load('hypercore')
const hyperdrive = load('hyperdrive')
const { call } = require(path.join(reference, 'lib', 'promise.js'))

const seconds = () => Number(process.hrtime.bigint()) / 1e9

function say (message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

async function timed (amount, work) {
  const start = seconds()
  await work()
  say({ seconds: seconds() - start, amount })
}

// A page of random bytes, cut into blocks: their content does not matter, their making should not be measured.
function blocks (count, size) {
  const page = require('crypto').randomBytes(size * 1000)
  return Array.from({ length: count }, (_, index) => page.subarray((index % 1000) * size, (index % 1000 + 1) * size))
}

async function openCore (directory, key = null) {
  const core = hypercore(directory, key && Buffer.from(key, 'hex'), { sparse: true })
  await call(core, 'ready')
  return core
}

async function openStore (directory) {
  const store = new Corestore(directory)
  await store.ready()
  return store
}

async function openDrive (directory, key = null, peer = null) {
  const store = await openStore(directory)
  if (peer) replicate(net.connect(peer.port, peer.host), store, true)
  const drive = hyperdrive(store, key && Buffer.from(key, 'hex'))
  await call(drive, 'ready')
  return drive
}

function replicate (socket, store, initiator) {
  socket.setNoDelay(true)
  const stream = store.replicate(initiator, { live: true })
  socket.on('error', () => stream.destroy())
  stream.on('error', () => socket.destroy())
  socket.pipe(stream).pipe(socket)
}

const works = {
  async append ({ directory, count, size, batch }) {
    const core = await openCore(directory)
    const all = blocks(count, size)
    await timed(count, async () => {
      for (let start = 0; start < count; start += batch) {
        await call(core, 'append', batch === 1 ? all[start] : all.slice(start, start + batch))
      }
    })
    await call(core, 'close')
  },

  async get ({ directory, count }) {
    const core = await openCore(directory)
    const indexes = Array.from({ length: count }, (_, index) => (index * 7919) % core.length)
    await timed(count, async () => {
      for (const index of indexes) await call(core, 'get', index)
    })
  },

  // Serve a core until stdin ends; prints { port, key } once it listens.
  async serve ({ directory, host = '127.0.0.1' }) {
    const core = await openCore(directory)
    const server = net.createServer(socket => {
      socket.setNoDelay(true)
      const stream = core.replicate(false, { live: true })
      socket.on('error', () => stream.destroy())
      stream.on('error', () => socket.destroy())
      socket.pipe(stream).pipe(socket)
    })
    server.listen(0, host, () => say({ port: server.address().port, key: core.key.toString('hex') }))
    process.stdin.on('end', () => process.exit(0)).resume()
  },

  // Serve a whole drive until stdin ends; prints { port } once it listens.
  async serveDrive ({ directory, key, host }) {
    const drive = await openDrive(directory, key)
    await call(drive, 'getContent')
    const server = net.createServer(socket => replicate(socket, drive.corestore, false))
    server.listen(0, host, () => say({ port: server.address().port }))
    process.stdin.on('end', () => process.exit(0)).resume()
  },

  async fetch ({ directory, key, port, count, host = '127.0.0.1' }) {
    const core = await openCore(directory, key)
    await timed(count, async () => {
      const socket = net.connect(port, host)
      socket.setNoDelay(true)
      socket.pipe(core.replicate(true, { live: true })).pipe(socket)
      await call(core, 'update', { minLength: count, ifAvailable: false })
      await call(core, 'download', { start: 0, end: count })
    })
    if (core.downloaded(0, count) !== count) throw new Error('not everything came')
  },

  // Ask one peer for a whole drive's content over several connections, each of which reads slowly, until stdin ends.
  async readSlowly ({ directory, key, port, readers, bytesPerSecond }) {
    for (let reader = 0; reader < readers; reader++) {
      const drive = await openDrive(path.join(directory, String(reader)), key)
      const socket = net.connect(port, '127.0.0.1')
      const stream = drive.replicate(true, { live: true, timeout: false })
      stream.pipe(socket)
      socket.on('error', error => { throw error })
      socket.on('data', chunk => {
        stream.write(chunk)
        socket.pause()
        setTimeout(() => socket.resume(), chunk.length / bytesPerSecond * 1000)
      })
      call(drive, 'getContent').then(content => content.download({ start: 0, end: -1 }))
    }
    say({ ready: true })
    process.stdin.on('end', () => process.exit(0)).resume()
  },

  // Bring a folder into a new drive, file after file.
  async import ({ source, directory }) {
    const drive = await openDrive(directory)
    let files = 0
    const start = seconds()
    const folders = ['']
    while (folders.length) {
      const folder = folders.pop()
      for (const entry of await fs.promises.readdir(path.join(source, folder), { withFileTypes: true })) {
        const name = `${folder}/${entry.name}`
        if (entry.isDirectory()) {
          folders.push(name)
          await call(drive, 'mkdir', name)
          continue
        }
        const stat = await fs.promises.stat(path.join(source, name))
        const options = { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtimeMs | 0 }
        if (stat.size < 65536) {
          await call(drive, 'writeFile', name, await fs.promises.readFile(path.join(source, name)), options)
        } else {
          await new Promise((resolve, reject) => {
            const target = drive.createWriteStream(name, options)
            target.on('finish', resolve).on('error', reject)
            fs.createReadStream(path.join(source, name), { highWaterMark: 524288 }).on('error', reject).pipe(target)
          })
        }
        files++
      }
    }
    say({ seconds: seconds() - start, amount: files, key: drive.key.toString('hex') })
  },

  // Join others who watch a film, and let more of them join, until stdin ends; prints { port } once the drive is known.
  // The film is read from when somebody opens the other end of a pipe, and written there.
  async watch ({ directory, key, name, pipe, host, peers }) {
    const drive = await openDrive(directory, key)
    for (const peer of peers) replicate(net.connect(peer.port, peer.host), drive.corestore, true)
    const server = net.createServer(socket => replicate(socket, drive.corestore, false))
    await call(drive, 'getContent')
    server.listen(0, host, () => say({ port: server.address().port }))
    const output = fs.createWriteStream(pipe)
    output.on('open', () => drive.createReadStream(name).pipe(output))
    process.stdin.on('end', () => process.exit(0)).resume()
  },

  // Mount a drive, a peer's if one is given, until stdin ends; prints { ready } once it is there.
  async mount ({ directory, key, mountpoint, peer = null }) {
    const { HyperdriveFuse } = load('hyperdrive-fuse')
    const drive = await openDrive(directory, key, peer)
    const fuse = new HyperdriveFuse(drive, mountpoint)
    await fuse.mount()
    say({ ready: true })
    process.stdin.on('end', () => fuse.unmount().finally(() => process.exit(0))).resume()
  }
}

const LASTING = ['serve', 'serveDrive', 'watch', 'mount', 'readSlowly']
const [work, params] = process.argv.slice(2)
works[work](JSON.parse(params)).then(
  () => { if (!LASTING.includes(work)) process.exit(0) },
  error => {
    console.error(error.stack)
    process.exit(1)
  }
)
