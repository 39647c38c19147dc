"""A small vision-language model that reads handwritten digits, and its server.

The model is a decoder-only transformer of about 0.2 million parameters. An 8×8 scan becomes sixteen patch
embeddings in front of the prompt, and the answer is generated word by word. Inference needs NumPy alone.
"""

import os

# The matrices are tiny: BLAS worker threads cost more than they give, and they fight with the server's own
# threads. BLAS reads these once, when NumPy is first imported, so they are set before any module here does so.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

__version__ = "0.1.0"
