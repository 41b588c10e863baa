"""Weight and activation transforms: masks, signs, learned steps, and what puts them into a module and into a graph."""
