node_modules/m/index.js
