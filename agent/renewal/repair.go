package renewal

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// A record that another program has emptied, or has set back to an old copy, is repaired a few times. A program that goes on
// doing so is taken to mean it.
const (
	MaxRepairs   = 3
	RepairWindow = 10 * time.Minute // in which so many are allowed
)

// Repairs are the last repairs, in a file of the state directory, so that every agent keeps to the limit.
type Repairs struct {
	Version int         `json:"version"`
	At      []time.Time `json:"at"`
	Last    string      `json:"last"` // where the last one was
}

func (t *Task) repairPath() string {
	return filepath.Join(t.StateDir, "mended", protocol.FoldProfile(t.Job.Profile)+".json")
}

// Repairs are the repairs of the last [RepairWindow].
func (t *Task) Repairs() Repairs {
	none := Repairs{Version: 1}
	if t.StateDir == "" {
		return none
	}
	r := none
	if data, err := os.ReadFile(t.repairPath()); err != nil || json.Unmarshal(data, &r) != nil || r.Version != 1 {
		return none
	}
	now := time.Now()
	r.At = slices.DeleteFunc(r.At, func(at time.Time) bool { return at.After(now) || now.Sub(at) > RepairWindow })
	return r
}

// MayRepair reports whether one more repair is within the limit.
func (t *Task) MayRepair() bool { return len(t.Repairs().At) < MaxRepairs }

// NoteRepair counts a repair of the record at that place.
func (t *Task) NoteRepair(at store.Place) {
	if t.StateDir == "" {
		return
	}
	r := t.Repairs()
	r.At, r.Last = append(r.At, time.Now().Round(0)), at.Location
	if data, err := json.Marshal(r); err == nil {
		store.ReplaceFile(t.repairPath(), append(data, '\n'))
	}
}
