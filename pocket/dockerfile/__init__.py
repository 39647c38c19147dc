"""Building images from Dockerfiles: `parse` (text → stages), `words` (variables and quotes), `build` (stages → containers),
`copy` (COPY and ADD) and `mounts` (RUN --mount). The grammar is read by the `dockerfile` package, BuildKit's own parser.
"""
