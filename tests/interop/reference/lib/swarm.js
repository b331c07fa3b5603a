'use strict'
// The reference's swarm: whoever it finds for a topic, by a DHT or multicast DNS, gets the store's cores replicated.

const hyperswarm = require('hyperswarm')
const Protocol = require('hypercore-protocol')
const { call } = require('./promise')

class Swarm {
  constructor (store) {
    this._corestore = store.corestore
    this._swarm = null
    this._connected = new Set()
    this._ended = []
    this._keyPair = Protocol.keyPair()
  }

  // Begin with the DHT nodes "host:port"; none is multicast DNS alone. Resolves with the port that is announced.
  async start ({ bootstrap = [], port = 0 }) {
    this._swarm = hyperswarm({ bootstrap, ephemeral: true })
    this._swarm.on('connection', (socket, info) => this._replicate(socket, info))
    await new Promise((resolve, reject) => this._swarm.listen(port, error => error ? reject(error) : resolve()))
    return { port: this._swarm.address().port }
  }

  // Look for a topic, or announce it, or both. Resolves once everybody was asked, or told, that there is.
  join ({ topic, announce = false, lookup = true }) {
    return new Promise(resolve => this._swarm.join(Buffer.from(topic, 'hex'), { announce, lookup }, () => resolve({})))
  }

  // Announce a topic no more. Resolves once everybody was told.
  leave ({ topic }) {
    return new Promise(resolve => this._swarm.leave(Buffer.from(topic, 'hex'), () => resolve({})))
  }

  // By what transport each connection is, and whether we dialled; and why earlier ones ended.
  status () {
    const connections = [...this._connected].map(info => ({ type: info.type, dialled: info.client }))
    return { connections, ended: this._ended }
  }

  async close () {
    if (this._swarm) await call(this._swarm, 'destroy')
    this._swarm = null
  }

  _replicate (socket, info) {
    const stream = this._corestore.replicate(info.client, {
      live: true,
      keyPair: this._keyPair,
      onhandshake: () => info.deduplicate(stream.publicKey, stream.remotePublicKey)
    })
    this._connected.add(info)
    const end = reason => {
      if (!this._connected.delete(info)) return
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

module.exports = { Swarm }
