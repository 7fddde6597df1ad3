"""Reference studies: from a raw dataset to numbers, tables, images and a report that anyone can make again."""
