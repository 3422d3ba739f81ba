"""What a quantizer of rows or of activations does wrong (`facts`), and a right one's recipe (`recipes`).

Three ways to a fact. What is measured of the whole function, by `reveal.quantizers`, is named step by step
(`steps`, `values`). A law (`laws`) is an effect with the condition of its places, found by covering the wrong
bytes of calls made for it (`cases`, `effects`, `conditions`, `search`). What neither finds, plain statements
about inputs and outputs are put together for (`learned`, `statements`).
"""
