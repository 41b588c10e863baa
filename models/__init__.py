"""Small models with seeds, for tests, examples and benches; trained ones are shipped beside them."""
