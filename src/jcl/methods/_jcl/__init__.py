"""What JCL is made of: its ablations, how its views are paired, its losses, and its phases (see `jcl.methods.jcl`)."""
