//! What a person does with `ctl`, from the outside.
