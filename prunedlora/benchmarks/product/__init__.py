"""Measurements of the product itself, not of a user's model or data: of use in its repository, and left out of the
package that pip installs."""
