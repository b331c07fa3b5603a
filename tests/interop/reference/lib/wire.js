'use strict'
// A bare protocol stream with one channel and no core behind it: sends what it is told and notes all that it receives.
// In messages, {"hex": ...} stands for bytes.

const net = require('net')
const crypto = require('hypercore-crypto')
const Protocol = require('hypercore-protocol')

const MESSAGES = ['options', 'status', 'have', 'unhave', 'want', 'unwant', 'request', 'cancel', 'data']

class Wire {
  constructor () {
    this._received = []
    this._waiting = []
    this._channel = null
    this._stream = null
  }

  listen ({ key }) {
    return new Promise((resolve, reject) => {
      const server = net.createServer(socket => {
        server.close()
        this._run(socket, false, key)
      })
      server.on('error', reject)
      server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port }))
    })
  }

  connect ({ port, key }) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1')
      socket.once('error', reject)
      socket.once('connect', () => {
        this._run(socket, true, key)
        resolve({})
      })
    })
  }

  // Send one message on the channel.
  send ({ name, message = {} }) {
    this._channel[name](decode(message))
    return {}
  }

  sendExtension ({ id, payload }) {
    this._channel.extension(id, Buffer.from(payload.hex, 'hex'))
    return {}
  }

  ping () {
    this._stream.ping()
    return {}
  }

  // The first `count` things that happened, each [name, message], once that many did.
  received ({ count }) {
    return new Promise(resolve => {
      this._waiting.push({ count, resolve })
      this._tell()
    })
  }

  keys () {
    return { publicKey: this._stream.publicKey.toString('hex'), remotePublicKey: this._stream.remotePublicKey.toString('hex') }
  }

  // Open `key` as soon as there is a stream; refuse every other core.
  _run (socket, initiator, key) {
    const own = Buffer.from(key, 'hex')
    const stream = this._stream = new Protocol(initiator, {
      live: true,
      ondiscoverykey: discoveryKey => {
        if (!discoveryKey.equals(crypto.discoveryKey(own))) stream.close(discoveryKey)
      }
    })
    socket.setNoDelay(true)
    socket.on('error', () => stream.destroy())
    stream.on('error', error => this._note('error', { message: error.message }))
    stream.on('close', () => this._note('end', {}))
    const handlers = {
      onopen: () => this._note('open', {}),
      onclose: () => this._note('close', {}),
      onextension: (id, payload) => this._note('extension', { id, payload })
    }
    for (const name of MESSAGES) handlers[`on${name}`] = message => this._note(name, message)
    this._channel = stream.open(own, handlers)
    socket.pipe(stream).pipe(socket)
  }

  _note (name, message) {
    this._received.push([name, encode(message)])
    this._tell()
  }

  _tell () {
    this._waiting = this._waiting.filter(({ count, resolve }) => {
      if (this._received.length < count) return true
      resolve(this._received.slice(0, count))
      return false
    })
  }
}

function encode (value) {
  if (Buffer.isBuffer(value)) return { hex: value.toString('hex') }
  if (Array.isArray(value)) return value.map(encode)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, encode(field)]))
}

function decode (value) {
  if (Array.isArray(value)) return value.map(decode)
  if (value === null || typeof value !== 'object') return value
  if (typeof value.hex === 'string') return Buffer.from(value.hex, 'hex')
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, decode(field)]))
}

module.exports = { Wire }
