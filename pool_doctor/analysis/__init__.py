"""What the recorded traffic says about pool sizes: pure functions over plain values, without Django.

`queueing` has the textbook formulas, `replay` the exact replay of recorded requests through a pool of another
size, `budget` the server's limit, `demand` the description of the traffic, `simulate` the table of sizes, and
`advice` the settings to paste, with reasons.
"""
