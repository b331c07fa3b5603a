'use strict'
// The reference implementation speaks callbacks; everything here awaits.

// Call object.method(...args, callback) and resolve with what the callback gets.
function call (object, method, ...args) {
  return new Promise((resolve, reject) => {
    object[method](...args, (error, value) => error ? reject(error) : resolve(value))
  })
}

// Collect what an iterator with next(callback) yields, up to its null.
async function collect (iterator) {
  const items = []
  for (;;) {
    const item = await call(iterator, 'next')
    if (item === null || item === undefined) return items
    items.push(item)
  }
}

module.exports = { call, collect }
