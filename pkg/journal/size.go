package journal

import "context"

// Size is what the journal's file takes, and how much of it what comes will take first,
// in bytes. Nothing gives that back to the disk but SQLite's VACUUM. What SQLite keeps
// beside the file while it is written to is not counted.
func (j *Journal) Size(ctx context.Context) (bytes, free int64, err error) {
	// https://www.sqlite.org/pragma.html#pragfunc
	err = j.db.QueryRowContext(ctx, `SELECT page_count * page_size, freelist_count * page_size
		FROM pragma_page_count, pragma_freelist_count, pragma_page_size`).Scan(&bytes, &free)
	if err != nil {
		return 0, 0, j.cannot("read", err)
	}
	return bytes, free, nil
}
