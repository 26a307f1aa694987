"""The contract with readers of a published table: what it is, how it changes, and who breaks when it does.

What belongs here is a comparison of contracts, a contract as a file of some standard, and the columns that a query
reads. What does not: rows, and where they are stored; that is the warehouse's.
"""
