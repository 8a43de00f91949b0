// Command store keeps a record in a store of its own: a row of a table, which stands here for a database.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// row is a store.Medium; nil is no row.
type row struct{ value atomic.Pointer[[]byte] }

var errNone = &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored in the table"}

func (r *row) Read(context.Context) ([]byte, error) {
	if v := r.value.Load(); v != nil {
		return *v, nil
	}
	return nil, errNone
}

func (r *row) Write(_ context.Context, data []byte) error { r.value.Store(&data); return nil }

func (r *row) Remove(context.Context) error {
	if r.value.Swap(nil) == nil {
		return errNone
	}
	return nil
}

// open returns a store on the row: it goes into an embed.Profile, and passes storetest.Run.
func open(r *row, dir string) store.Store {
	return store.NewCustom(r, store.Place{Kind: "table", Location: "the table"}, filepath.Join(dir, "table.lock"))
}

func main() {
	if err := run(context.Background(), os.TempDir(), os.Stdout); err != nil {
		fmt.Fprint(os.Stderr, protocol.Explain(err))
		os.Exit(protocol.ExitCode(err))
	}
}

func run(ctx context.Context, dir string, stdout io.Writer) error {
	st := open(&row{}, dir)
	saved := store.Record{AccessToken: protocol.NewSecret("fake-access-1"), Expiry: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	if _, err := st.Save(ctx, saved, store.Version{}); err != nil {
		return err
	}
	r, _, err := st.Load(ctx)
	fmt.Fprintln(stdout, st.Place().Location, "holds", r.AccessToken, "until", r.Expiry.UTC().Format(time.DateOnly))
	return err
}
