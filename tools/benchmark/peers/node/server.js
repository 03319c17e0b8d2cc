// A peer: ws in one process, the handler in a forked worker. Prints its port. NODE_PATH says where ws is.
'use strict';
const { fork } = require('node:child_process');
const path = require('node:path');
const { WebSocketServer } = require('ws');

const worker = fork(path.join(__dirname, 'worker.js'));
const connections = new Map();
let next = 0;

worker.on('message', ([id, data]) => connections.get(id)?.send(data));

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 2048, perMessageDeflate: false });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (connection) => {
  const id = next++;
  connections.set(id, connection);
  connection.on('message', (data) => worker.send([id, data.toString()]));
  connection.on('error', () => connection.terminate());
  connection.on('close', () => connections.delete(id));
});

process.on('SIGTERM', () => {
  worker.kill();
  process.exit(0);
});
