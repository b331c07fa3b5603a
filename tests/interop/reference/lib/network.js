'use strict'
// Plain TCP on an address that is given: no discovery. The dialler is the initiator, as the protocol says.

const net = require('net')

class Network {
  constructor (store) {
    this._corestore = store.corestore
    this._servers = new Set()
    this._sockets = new Set()
    this._ended = []
    this._acks = []
    this._onack = () => {}
  }

  // Accept peers; the port is chosen by the system unless given. With `ack` they are to tell which blocks they have got.
  // Without `live` a connection ends once neither side wants anything more, without `encrypted` it has no cipher.
  listen ({ host = '127.0.0.1', port = 0, ack = false, live = true, encrypted = true }) {
    return new Promise((resolve, reject) => {
      const server = net.createServer(socket => this._replicate(socket, false, { ack, live, encrypted }))
      server.on('error', reject)
      server.listen(port, host, () => {
        this._servers.add(server)
        resolve({ host, port: server.address().port })
      })
    })
  }

  connect ({ host = '127.0.0.1', port, live = true, encrypted = true }) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(port, host)
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.removeListener('error', reject)
        this._replicate(socket, true, { live, encrypted })
        resolve({})
      })
    })
  }

  // End every connection, and accept none from now on.
  async close () {
    for (const server of this._servers) server.close()
    this._servers.clear()
    return this.disconnect()
  }

  disconnect () {
    for (const socket of this._sockets) socket.destroy()
    return {}
  }

  // The connections there are, and the reasons why earlier ones ended.
  status () {
    return { connections: this._sockets.size, ended: this._ended }
  }

  // The blocks that peers have told to have got, once there are `count` of them.
  acks ({ count }) {
    return new Promise(resolve => {
      this._onack = () => { if (this._acks.length >= count) resolve({ blocks: this._acks }) }
      this._onack()
    })
  }

  _replicate (socket, initiator, options) {
    socket.setNoDelay(true)
    const stream = this._corestore.replicate(initiator, options)
    stream.on('ack', have => {
      this._acks.push(have.start)
      this._onack()
    })
    this._sockets.add(socket)
    let over = false
    const end = reason => {
      if (over) return
      over = true
      this._sockets.delete(socket)
      this._ended.push(reason)
      socket.destroy()
      stream.destroy()
    }
    socket.on('error', error => end(`socket: ${error.message}`))
    socket.on('close', () => end('socket: closed'))
    stream.on('error', error => end(`protocol: ${error.message}`))
    stream.on('close', () => end('protocol: closed'))
    socket.pipe(stream).pipe(socket)
  }
}

module.exports = { Network }
