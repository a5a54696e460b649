"""The fault matrix of `pushrelay probe`: one list of cases, one laboratory for all of them."""
