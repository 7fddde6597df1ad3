"""Reading images and labels, checking, preparing and synthesising them."""
