"""What names or reaches somebody, taken out of texts before anything is made of them, and put back into answers.

Belongs here: what is found in a text, by patterns and check digits of Presidio's, without a model and without a
network, and what stands in its place. Does not: which texts are documents (`documents`), and where what was taken out
is kept.
"""
