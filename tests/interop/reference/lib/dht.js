'use strict'
// Nodes of the reference's DHT, on 127.0.0.1 unless told otherwise, each under the number that `start` returns.

const dht = require('@hyperswarm/dht')
const { call } = require('./promise')

const hex = text => Buffer.from(text, 'hex')

class Dht {
  constructor () {
    this._nodes = new Map()
    this._next = 1
  }

  // Start a node; bootstrap is a list of "host:port", [] for a first one. Resolves once it has joined.
  start ({ bootstrap = [], ephemeral = false, host = '127.0.0.1', port = 0 }) {
    return new Promise((resolve, reject) => {
      const node = dht({ bootstrap, ephemeral })
      const number = this._next++
      this._nodes.set(number, node)
      node.on('error', reject)
      node.on('warning', () => {})
      node.listen(port, host, () => {
        node.ready(() => resolve({ node: number, port: node.address().port, id: node.id.toString('hex') }))
      })
    })
  }

  // End a node without a word to the others.
  stop ({ node }) {
    this._nodes.get(node).destroy()
    this._nodes.delete(node)
    return {}
  }

  async announce ({ node, topic, port }) {
    await new Promise((resolve, reject) => {
      const walk = this._nodes.get(node).announce(hex(topic), { port })
      walk.on('error', reject)
      walk.on('end', resolve)
      walk.resume()
    })
    return {}
  }

  async unannounce ({ node, topic, port }) {
    await call(this._nodes.get(node), 'unannounce', hex(topic), { port })
    return {}
  }

  // Every "host:port" that was announced for the topic.
  lookup ({ node, topic }) {
    return new Promise((resolve, reject) => {
      const found = new Set()
      const walk = this._nodes.get(node).lookup(hex(topic))
      walk.on('data', ({ peers }) => { for (const { host, port } of peers || []) found.add(`${host}:${port}`) })
      walk.on('error', reject)
      walk.on('end', () => resolve({ peers: [...found].sort() }))
    })
  }

  // The first "host:port" that is found, and after how long; null when nobody is.
  find ({ node, topic }) {
    return new Promise((resolve, reject) => {
      const began = Date.now()
      const walk = this._nodes.get(node).lookup(hex(topic))
      walk.on('data', ({ peers }) => {
        if (!peers || !peers.length) return
        resolve({ peer: `${peers[0].host}:${peers[0].port}`, milliseconds: Date.now() - began })
        walk.destroy()
      })
      walk.on('error', reject)
      walk.on('close', () => resolve({ peer: null }))
      walk.on('end', () => resolve({ peer: null }))
    })
  }

  async put ({ node, value }) {
    return { target: (await call(this._nodes.get(node).immutable, 'put', hex(value))).toString('hex') }
  }

  async get ({ node, target }) {
    const value = await call(this._nodes.get(node).immutable, 'get', hex(target))
    return { value: value && value.toString('hex') }
  }

  async putMutable ({ node, value, seq, publicKey, secretKey, salt = null }) {
    const keypair = { publicKey: hex(publicKey), secretKey: hex(secretKey) }
    const options = { keypair, seq }
    if (salt !== null) options.salt = hex(salt)
    await call(this._nodes.get(node).mutable, 'put', hex(value), options)
    return {}
  }

  async getMutable ({ node, publicKey, seq = 0, salt = null }) {
    const options = { seq }
    if (salt !== null) options.salt = hex(salt)
    const found = await call(this._nodes.get(node).mutable, 'get', hex(publicKey), options)
    return { value: found.value && found.value.toString('hex'), seq: found.value ? found.seq : null }
  }

  ping ({ node, host = '127.0.0.1', port }) {
    return call(this._nodes.get(node), 'ping', { host, port })
  }

  // Have `referrer` open the way to host:port; resolves when that answered.
  async holepunch ({ node, host = '127.0.0.1', port, referrer }) {
    await call(this._nodes.get(node), 'holepunch', { host, port, referrer: { host, port: referrer } })
    return {}
  }

  // The "host:port" of everybody that a node knows.
  known ({ node }) {
    return { nodes: this._nodes.get(node).getNodes().map(({ host, port }) => `${host}:${port}`).sort() }
  }

  close () {
    for (const node of this._nodes.values()) node.destroy()
    this._nodes.clear()
    return {}
  }
}

module.exports = { Dht }
