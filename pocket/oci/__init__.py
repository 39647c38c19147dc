"""Images and artefacts: references, registries, layouts, archives, and layers as tar streams.

`reference` names · `client` + `transfer` registries (httpx) · `layout` and `archive` files · `image`, `manifest`, `config`
typed documents · `blobs` a verified directory of blobs · `pack` and `unpack` layers from and to directories.
Nothing is imported here, so that a program pays only for the part it uses.
"""
