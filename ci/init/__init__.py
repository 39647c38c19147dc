"""`init`: looks at a repository that knows nothing of this pipeline, and writes the files with which it runs there."""
