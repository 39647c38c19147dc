sub/node_modules/kept.js
