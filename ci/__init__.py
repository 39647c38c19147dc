"""The pipeline: from a commit of a model repository to a pushed, evaluated, traceable artefact, written with the Dagger SDK."""

__version__ = "0.1.0"
