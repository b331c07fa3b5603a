'use strict'
// Bytes as commands give them: { text }, { hex }, { base64 }, or { size, seed } for as many as one likes.

const crypto = require('crypto')

const CHUNK = 65536

// The same bytes as tests/support/patterns.py makes: one random chunk over and over, numbered in its first 8 bytes.
function pattern (seed, size) {
  const bytes = Buffer.alloc(size)
  const chunk = crypto.createHash('shake256', { outputLength: CHUNK }).update(String(seed)).digest()
  for (let number = 0, offset = 0; offset < size; number++, offset += CHUNK) {
    chunk.writeBigUInt64BE(BigInt(number))
    chunk.copy(bytes, offset)
  }
  return bytes
}

function decode (data) {
  if (typeof data.text === 'string') return Buffer.from(data.text)
  if (typeof data.hex === 'string') return Buffer.from(data.hex, 'hex')
  if (typeof data.base64 === 'string') return Buffer.from(data.base64, 'base64')
  if (typeof data.size === 'number') return pattern(data.seed || 0, data.size)
  throw new Error(`these are no bytes: ${JSON.stringify(data)}`)
}

function sha256 (bytes) {
  return crypto.createHash('sha256').update(bytes).digest('hex')
}

module.exports = { pattern, decode, sha256 }
