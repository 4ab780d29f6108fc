//! Text of okteto.yml to a typed manifest and all its problems, each with a span.
