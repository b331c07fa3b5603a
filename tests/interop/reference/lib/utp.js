'use strict'
// uTP as the reference's peers speak it: one socket on 127.0.0.1 unless told otherwise.

const utp = require('utp-native')
const crypto = require('crypto')

class Utp {
  constructor () {
    this._socket = null
    this._connections = new Set()
    this._onchange = () => {}
  }

  // Accept connections, sending back what comes on each, and ending it when the other side does.
  listen ({ host = '127.0.0.1', port = 0 }) {
    return new Promise((resolve, reject) => {
      this._socket = utp()
      this._socket.on('error', reject)
      this._socket.on('connection', connection => {
        this._keep(connection)
        connection.pipe(connection)
      })
      this._socket.listen(port, host, () => resolve({ port: this._socket.address().port }))
    })
  }

  // Dial, send `size` bytes and the end, and resolve with the hash of what was sent and of what came back.
  exchange ({ host = '127.0.0.1', port, size }) {
    return new Promise((resolve, reject) => {
      const connection = this._keep(utp.connect(port, host))
      const sent = crypto.randomBytes(size)
      const hash = crypto.createHash('sha256')
      let received = 0
      connection.on('error', reject)
      connection.on('data', data => {
        received += data.length
        hash.update(data)
        if (received === size) {
          const digest = data => crypto.createHash('sha256').update(data).digest('hex')
          resolve({ sent: digest(sent), received: hash.digest('hex') })
          connection.destroy()
        }
      })
      connection.write(sent)
    })
  }

  // Resolves once there are `count` connections.
  connections ({ count }) {
    return new Promise(resolve => {
      this._onchange = () => { if (this._connections.size === count) resolve({}) }
      this._onchange()
    })
  }

  close () {
    for (const connection of this._connections) connection.destroy()
    if (this._socket) this._socket.close()
    this._socket = null
  }

  _keep (connection) {
    this._connections.add(connection)
    connection.on('close', () => {
      this._connections.delete(connection)
      this._onchange()
    })
    connection.on('error', () => {})
    return connection
  }
}

module.exports = { Utp }
