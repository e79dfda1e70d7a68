"""An engine as third parties write them."""
