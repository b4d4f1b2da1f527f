"""The formats of other tools: what each one's files hold, written from an SAE of distsae and read as one.

Everything is a conversion between the tensors of an SAE (`W_enc`, `W_dec`, `b_enc`, `b_dec`, `threshold`) with its
`SAEConfig`, and one tool's files. A tool has a file here; `catalogue.py` lists them. Weights are written in blocks, so
that a second matrix is never in memory. What a tool cannot hold exactly is refused with the reason.
"""
