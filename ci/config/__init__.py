"""The configuration: what is wanted. `model` holds its shape, `load` reads it strictly."""
