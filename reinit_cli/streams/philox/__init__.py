"""Draw philox-1, the stream of random numbers that is the same on every machine.

From a seed to a value:

1. The Philox key of a tensor is the first 16 bytes, little-endian, of the SHA-256 of "SEED:KEY",
   or of "SEED:KEY:NAME" for a transform of existing values.                        `stream.py`
2. Philox4x64-10 (Salmon et al. 2011) turns it and a counter into random words. Element i, in
   row-major order, has the 32-bit word i of lane 0, and for float64 also word i of lane 1.
   Choices of places take the 64-bit words of lane 2.                                `words.py`
3. A word becomes a value by conversions, additions, multiplications and table look-ups, in
   float64 also by divisions and square roots.           `uniform.py`, `normal.py`, `float64.py`,
                                                      `truncated.py`, `tail.py`, `permutation.py`

Each of these steps is an operation of numpy of its own, which IEEE 754 defines to the last bit:
there is no function of a maths library, no sum whose order matters, no fused multiplication and
addition. So the values are the same on every processor, with every version of numpy and torch,
with any number of threads; and any run of elements can be drawn alone.

None of this may ever change. Another way from a seed to a value would be another stream, with
another name.
"""
