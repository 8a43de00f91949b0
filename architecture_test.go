package ccagent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	span       = regexp.MustCompile("`([^`\n]+)`")
	path       = regexp.MustCompile(`^\.?[A-Za-z0-9_-]+(/[A-Za-z0-9_.-]*)*$`)
	identifier = regexp.MustCompile(`^([a-z][a-z0-9]*)\.([A-Z]\w*)(?:\.([A-Z]\w*))?$`)
	command    = regexp.MustCompile(`^ccagent ([a-z]+)`)
)

// TestArchitecture holds the documents on how ccagent is built to the code: every path, exported name and command in them exists.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	names, commands := exported(t), commandNames(t)
	for document, least := range map[string]int{"ARCHITECTURE.md": 40, "docs/facts.md": 2, "cmd/cchelper/early/README.md": 3} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		checked := 0
		for _, m := range span.FindAllStringSubmatch(string(text), -1) {
			said := m[1]
			switch {
			case ourPath(said):
				checked++
				if _, err := os.Stat(said); err != nil {
					t.Errorf("%s names `%s`: %v", document, said, err)
				}
			case identifier.MatchString(said):
				if pkg := identifier.FindStringSubmatch(said)[1]; names[pkg] == nil {
					continue // of another program
				}
				checked++
				if pkg, name, _ := strings.Cut(said, "."); !names[pkg][name] {
					t.Errorf("%s names `%s`, which the code has not", document, said)
				}
			case command.MatchString(said):
				checked++
				if name := command.FindStringSubmatch(said)[1]; !commands[name] {
					t.Errorf("%s names `%s`, and there is no such command", document, said)
				}
			}
		}
		if checked < least {
			t.Errorf("%s: %d names were checked, and not %d at least", document, checked, least)
		}
	}
}

// ourPath reports whether a document means a path of the repository: one below a folder of its root, or a Go file in it.
func ourPath(said string) bool {
	if !path.MatchString(said) {
		return false
	}
	root, _, below := strings.Cut(said, "/")
	if !below {
		return strings.HasSuffix(said, ".go") || strings.HasSuffix(said, ".md")
	}
	info, err := os.Stat(root)
	return err == nil && info.IsDir()
}

// exported returns the exported names of each package of ours by the package's name: types, functions, constants, variables, and
// methods as Type.Method.
func exported(t *testing.T) map[string]map[string]bool {
	t.Helper()
	found := map[string]map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil || tree.Name.Name == "main" {
			return err
		}
		if found[tree.Name.Name] == nil {
			found[tree.Name.Name] = map[string]bool{}
		}
		for _, name := range declared(tree) {
			found[tree.Name.Name][name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func declared(tree *ast.File) (names []string) {
	for _, decl := range tree.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			} else if of, ok := receiver(d.Recv.List[0].Type); ok {
				names = append(names, of+"."+d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
					if i, ok := s.Type.(*ast.InterfaceType); ok {
						for _, m := range i.Methods.List {
							for _, name := range m.Names {
								names = append(names, s.Name.Name+"."+name.Name)
							}
						}
					}
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func receiver(e ast.Expr) (string, bool) {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	name, ok := e.(*ast.Ident)
	if !ok {
		return "", false
	}
	return name.Name, true
}

// commandNames returns the names that commands of ccagent have.
func commandNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("cmd/ccagent/*.go")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\bName:\s+"([a-z]+)"`)
	found := map[string]bool{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(source), -1) {
			found[m[1]] = true
		}
	}
	return found
}
