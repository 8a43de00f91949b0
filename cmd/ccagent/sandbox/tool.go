package sandbox

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// link is a symbolic link, with what it leads to as it is written.
type link struct{ At, To string }

// needs is what a tool needs to be readable, besides the system.
type needs struct {
	files []string // files and folders, without links
	links []link   // through which they were found
}

// maxLinks and maxInterpreters bound what is followed. The kernel's own limits are 40 and 5.
const maxLinks, maxInterpreters = 40, 5

// needed returns what a program needs, which is an absolute path. lookPath finds its interpreter, where that is named without a
// folder.
func needed(program, home string, lookPath func(string) string) (needs, error) {
	var n needs
	for range maxInterpreters {
		real, met, err := trail(program)
		if err != nil {
			return n, err
		}
		for _, l := range met { // a virtual environment is where the link is, and not where it leads
			folders, _ := packageOf(l.At)
			n.files = append(n.files, folders...)
		}
		n.links = append(n.links, met...)
		n.addFolder(real, home)
		next := interpreter(real)
		if next != "" && !strings.Contains(next, "/") {
			next = lookPath(next)
		}
		if !filepath.IsAbs(next) {
			break
		}
		if _, err := exec.LookPath(next); err != nil {
			break // a script can name any file or folder, and the kernel runs only programs
		}
		program = next
	}
	n.files = slices.DeleteFunc(n.files, func(path string) bool { return everybodys(path, home) || manys(path, home) })
	slices.Sort(n.files)
	n.files = slices.Compact(n.files)
	return n, nil
}

// trail follows a path, and returns it without links, with the links that were met. Each is where it is without links.
func trail(path string) (real string, met []link, err error) {
	real = "/"
	rest := strings.Split(filepath.Clean(path), "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			real = filepath.Dir(real)
			continue
		}
		at := filepath.Join(real, part)
		to, err := os.Readlink(at)
		if err != nil {
			if _, err := os.Lstat(at); err != nil {
				return "", nil, err
			}
			real = at
			continue
		}
		if met = append(met, link{at, to}); len(met) > maxLinks {
			return "", nil, &fs.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return real, met, nil
}

// addFolder adds the folder in which a program's package is installed.
func (n *needs) addFolder(real, home string) {
	if folders, ok := packageOf(real); ok {
		n.files = append(n.files, folders...)
		return
	}
	dir := filepath.Dir(real)
	if up := filepath.Dir(dir); filepath.Base(dir) == "bin" && !tooWide(up, home) && !manys(up, home) {
		n.files = append(n.files, up)
		return
	}
	if tooWide(dir, home) {
		dir = real
	}
	n.files = append(n.files, dir)
}

// everybodys reports whether a folder is the home, above it, or one of everybody's.
func everybodys(dir, home string) bool { return below(home, dir) || slices.Contains(shared, dir) }

// manys reports whether a folder is one of the home's in which many programs are installed, with their data.
func manys(dir, home string) bool {
	return slices.Contains([]string{home + "/.local", home + "/go", home + "/.cargo"}, dir)
}

// tooWide reports whether a folder can hold the files of more than one program.
func tooWide(dir, home string) bool { return everybodys(dir, home) || filepath.Dir(dir) == "/" }

// packageOf returns the folders of the package that a program belongs to, by the signs of npm and of Python.
func packageOf(path string) ([]string, bool) {
	const modules = "/node_modules/"
	if i := strings.Index(path, modules); i >= 0 {
		folders := []string{path[:i+len(modules)-1]}
		if prefix, ok := strings.CutSuffix(path[:i], "/lib"); ok { // a global installation, whose programs are beside lib
			folders = append(folders, prefix+"/bin")
		}
		return folders, true
	}
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "pyvenv.cfg"))
		if err != nil {
			continue
		}
		folders := []string{dir}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, "=")
			bin := strings.TrimSpace(value)
			// A tool that may write this file could name any folder for its next start.
			pythons, _ := filepath.Glob(literal(bin) + "/python*")
			if strings.TrimSpace(key) == "home" && filepath.IsAbs(bin) && len(pythons) > 0 {
				folders = append(folders, filepath.Dir(bin))
			}
		}
		return folders, true
	}
	return nil, false
}

// interpreter returns the program that runs a script: a path, or a name that is on PATH. It returns "" for a file that is none.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 256) // as much as the kernel reads
	n, _ := io.ReadFull(f, head)
	line, ok := bytes.CutPrefix(head[:n], []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return ""
	}
	if filepath.Base(words[0]) != "env" {
		return words[0]
	}
	for _, word := range words[1:] {
		if !strings.HasPrefix(word, "-") && !strings.Contains(word, "=") {
			return word
		}
	}
	return words[0]
}
