'use strict'
// The reference's discovery without a DHT: multicast DNS on whatever networks this process has.

const discovery = require('@hyperswarm/discovery')

class Discovery {
  constructor () {
    this._discovery = null
    this._found = new Map()
    this._waiting = []
  }

  // Announce a topic at a port of this host.
  announce ({ topic, port }) {
    this._topic(this._open().announce(Buffer.from(topic, 'hex'), { port, localPort: port, lookup: null }), topic)
    return {}
  }

  lookup ({ topic }) {
    this._topic(this._open().lookup(Buffer.from(topic, 'hex')), topic)
    return {}
  }

  // Resolves with "host:port" of the first `count` peers found for a topic.
  found ({ topic, count = 1 }) {
    return new Promise(resolve => {
      this._waiting.push({ topic, count, resolve })
      this._tell()
    })
  }

  close () {
    if (this._discovery) this._discovery.destroy({ force: true })
    this._discovery = null
  }

  _open () {
    if (!this._discovery) this._discovery = discovery({ bootstrap: [] })
    return this._discovery
  }

  _topic (joined, topic) {
    joined.on('peer', ({ host, port, local }) => {
      if (!this._found.has(topic)) this._found.set(topic, new Set())
      if (local) this._found.get(topic).add(`${host}:${port}`)
      this._tell()
    })
  }

  _tell () {
    this._waiting = this._waiting.filter(({ topic, count, resolve }) => {
      const found = this._found.get(topic) || new Set()
      if (found.size < count) return true
      resolve({ peers: [...found].sort() })
      return false
    })
  }
}

module.exports = { Discovery }
